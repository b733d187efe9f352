-- There are no modules.
require("os").execute("id")
