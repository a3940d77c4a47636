module "m" {
  source = "../mod"
  value  = "SameZone"
}
