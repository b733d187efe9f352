-- There is no environment.
os.getenv("PATH")
