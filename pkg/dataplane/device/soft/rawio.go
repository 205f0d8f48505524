// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"syscall"
	"unsafe"
)

// The hot path calls the kernel without telling the scheduler: TUNs are
// non-blocking, so the calls return at once. The files are kept open by
// their ports, and iovecs point to mapped memory only.

type iovec struct {
	base unsafe.Pointer
	len  uintptr
}

func rawReadv(fd int, iov *iovec, n int) (int, syscall.Errno) {
	r, _, e := syscall.RawSyscall(syscall.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(iov)), uintptr(n))
	return int(r), e
}

func rawWritev(fd int, iov *iovec, n int) (int, syscall.Errno) {
	r, _, e := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(iov)), uintptr(n))
	return int(r), e
}

func yield() { syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }

func rawWrite(fd int, p unsafe.Pointer, n uintptr) (int, syscall.Errno) {
	r, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(p), n)
	return int(r), e
}
