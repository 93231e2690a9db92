"""Tables, progress displays and text for the terminal."""
