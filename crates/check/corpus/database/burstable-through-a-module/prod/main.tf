module "m" {
  source = "../mod"
  value  = "B_Standard_B1ms"
}
