"""The sweep file: grammar, loading, search space."""
