"""Real servers for the tests: fetched or built once, started on free ports."""
