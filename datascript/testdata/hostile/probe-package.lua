-- There are no packages.
package.loaded.string = nil
