module "m" {
  source = "../mod"
  value  = "Standard"
}
