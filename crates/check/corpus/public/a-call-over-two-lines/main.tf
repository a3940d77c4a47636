locals {
  name = var.names[try
    (var.selected, "default")]
}
variable "names" {
  default = { default = "x" }
}
variable "selected" {
  default = null
}
