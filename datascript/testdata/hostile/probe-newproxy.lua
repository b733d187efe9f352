-- There are no proxies.
newproxy(true)
