module "m" {
  source = "../mod"
  value  = "3.11"
}
