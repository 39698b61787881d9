"""The product beside what it is compared with: one command, ratios from one run. See README.md."""
