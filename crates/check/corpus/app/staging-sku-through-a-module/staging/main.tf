module "m" {
  source = "../mod"
  value  = "S2"
}
