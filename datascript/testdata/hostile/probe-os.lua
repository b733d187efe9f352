-- There is no process.
os.execute("id")
