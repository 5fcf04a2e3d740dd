"""Live feeds: a pure `Session` per connection, thin transports around it, a supervisor that keeps them up."""
