<<<<<<< HEAD
resource "azurerm_linux_web_app" "x" {}
=======
>>>>>>> branch
