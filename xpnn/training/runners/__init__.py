"""How each array library runs training steps."""
