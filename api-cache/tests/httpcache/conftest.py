from hypothesis import settings

# No deadline: a busy machine is no failure. `pytest --hypothesis-profile long` looks further.
settings.register_profile("short", max_examples=50, deadline=None)
settings.register_profile("long", max_examples=5000, deadline=None)
settings.load_profile("short")
