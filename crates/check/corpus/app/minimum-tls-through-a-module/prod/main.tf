module "m" {
  source = "../mod"
  value  = "1.1"
}
