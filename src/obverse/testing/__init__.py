"""For those who test: hypothesis strategies, and the checks that every block passes."""
