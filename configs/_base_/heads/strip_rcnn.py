# Strip R-CNN (Yuan et al., arXiv 2501.03775): Oriented R-CNN with separate branches for class, box and angle.
# Everything not named here is that of oriented_rcnn.py.
_base_ = './oriented_rcnn.py'

model = dict(roi_head=dict(bbox_head=dict(type='rsfoundation.StripHead')))
