"""The live engine over stored flow."""
