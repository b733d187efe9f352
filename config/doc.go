// Package config makes virtual services of a YAML file: the file that the
// command "limpet serve" reads. A program that embeds limpet loads the same
// file with one call.
//
// [Load] reads a file, with the files that it includes and names, and checks
// all of it. [File.Build] makes a [Runtime] of it: virtual services, which are
// HTTP handlers, and listeners. [Runtime.Update] changes a runtime to what
// another File says, while requests go on.
//
//	f, err := config.Load(ctx, "limpet.yaml")
//	if err != nil {
//		return err // every fault, with its line
//	}
//	rt, err := f.Build(config.Options{Logger: slog.Default()})
//	if err != nil {
//		return err
//	}
//	go rt.Run(ctx) // health monitors
//	shop, ok := rt.Service("shop")
//
// docs/reference/configuration.md describes the file, and so does [Schema], for
// editors. Its keys are the fields of [limpet.Config] and of the structs in it.
// [Options].Edit sets the fields that only a program can give, such as
// OnComplete.
//
// A file is not trusted to be small: it may have 8 MiB, values 64 deep, and a
// million values, aliases included.
package config
