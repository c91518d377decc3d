"""Training by a recipe. Not a plugin folder."""
