// Package html stands for one of another module.
package html
