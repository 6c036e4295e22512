"""What operators see, and the API that commands use to ask the worker."""
