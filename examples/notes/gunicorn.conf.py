"""What the standard's startup command leaves open; gunicorn reads this file from the app's directory."""

import os

from modules.backend.core.logging import gunicorn_config

logconfig_dict = gunicorn_config(os.environ.get("LOG_LEVEL", "info"))

# Only App Service's front end can reach an instance. It says who the client is and that the client
# spoke HTTPS; the first address from the right that is not one of these is the client's.
forwarded_allow_ips = "127.0.0.1,10.0.0.0/8,169.254.0.0/16,172.16.0.0/12"

# Instances share $HOME (/home), where each would put its control socket under the same name.
control_socket_disable = True
