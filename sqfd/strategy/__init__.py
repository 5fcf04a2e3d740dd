"""The five SqueezeFlow phases, each a file of pure functions over columns of ticks."""
