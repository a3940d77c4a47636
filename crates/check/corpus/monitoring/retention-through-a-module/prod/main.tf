module "m" {
  source = "../mod"
  value  = 31
}
