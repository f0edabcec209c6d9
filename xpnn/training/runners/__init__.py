"""How each array library runs training steps."""

from xpnn import deprecated

deprecated.attach(__name__)
