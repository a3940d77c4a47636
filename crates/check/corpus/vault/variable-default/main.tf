variable "admin_password" {
  default = "Corr3ctHorse!" # expect LZ-KV-011
}
