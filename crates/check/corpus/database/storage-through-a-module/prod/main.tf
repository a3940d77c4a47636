module "m" {
  source = "../mod"
  value  = 65536
}
