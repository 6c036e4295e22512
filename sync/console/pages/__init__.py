"""What operators see in a browser: pages made by the worker, usable without script."""
