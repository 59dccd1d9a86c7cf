from hypothesis import settings

settings.register_profile("olmill", deadline=None)  # how long an example takes proves nothing
settings.load_profile("olmill")
