module "m" {
  source = "../mod"
  value  = true
}
