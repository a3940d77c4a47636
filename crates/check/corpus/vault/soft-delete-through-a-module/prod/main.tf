module "m" {
  source = "../mod"
  value  = 30
}
