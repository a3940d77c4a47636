module "m" {
  source = "../mod"
  value  = "P2v2"
}
