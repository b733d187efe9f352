package lbpool
