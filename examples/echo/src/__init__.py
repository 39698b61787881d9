"""The smallest complete prefab."""
