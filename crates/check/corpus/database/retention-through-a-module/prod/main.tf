module "m" {
  source = "../mod"
  value  = 14
}
