"""SQL databases as a destination."""
