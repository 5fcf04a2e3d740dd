"""Messages to people: signals and changes of health, to a webhook or a Telegram chat."""
