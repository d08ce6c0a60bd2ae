"""The HTTP client: where an organisation is, who asks, how often, and what its answers mean."""
