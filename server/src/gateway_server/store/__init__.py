"""What outlives the process: the database and the objects. Knows nothing above itself."""
