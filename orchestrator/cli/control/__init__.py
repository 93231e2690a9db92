"""Commands that control a sweep, while it runs and after its end."""
