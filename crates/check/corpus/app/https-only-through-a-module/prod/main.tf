module "m" {
  source = "../mod"
  value  = false
}
