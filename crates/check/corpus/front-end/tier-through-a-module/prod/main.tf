module "m" {
  source = "../mod"
  value  = "Free"
}
