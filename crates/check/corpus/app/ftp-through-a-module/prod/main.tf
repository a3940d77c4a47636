module "m" {
  source = "../mod"
  value  = "FtpsOnly"
}
