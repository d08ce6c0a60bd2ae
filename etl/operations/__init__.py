"""What the commands do. Every effect goes through `etl.app.App`."""
