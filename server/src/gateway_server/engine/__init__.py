"""Where functions run. Knows neither HTTP nor the database."""
