"""What the strategy says, as JSON, and its way to subscribers."""
