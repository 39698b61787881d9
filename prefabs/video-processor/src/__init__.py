"""Take the sound out of videos."""
