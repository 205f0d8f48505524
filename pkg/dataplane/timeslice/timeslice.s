// SPDX-License-Identifier: Apache-2.0

// Lets the compiler accept a function that is elsewhere, in the runtime.
