// As Postfix's hold: what was taken stays in the queue, and its delivery does no work.
'use strict'

exports.hook_get_mx = function (_next, _hmail, _domain) {}
