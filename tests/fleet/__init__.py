"""Several processes of the service behind a proxy without sticky sessions."""
